"""OCI registries: names, logins, documents, and one repository to read from and to write to.

Distribution-spec 1.1 and image-spec 1.1 are what it follows. It does not know what klock makes of it.
"""
