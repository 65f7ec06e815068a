"""Credentials: what one is, and how klock keeps it out of all that is written or shown.

    vocabulary   the table: names, headers, options, forms of tokens
    signatures   what is masked in requests besides: it differs each time
    values       whether what stands under such a name can be a credential at all
    finding      the credentials that are written out in a text: a command, a requirement, a file
    encoded      words in base64 and in hexadecimal digits
    written_files  the credentials in files that a command writes
    literal      what the finders share
    held         what variables of this process hold, and where it can be told from chance
    references   a text with `${NAME}` in place of each credential, and the refusal of one that no variable holds
    userinfo     the user and password of a URL
    urls         URLs in a normal form without credentials
    headers      the credentials in an HTTP header
    forms        what a value may look like: percent-encoded, in JSON, in base64
    masking      texts and the output of programs with `***` in place of each credential

Nothing here knows lockfiles, steps or recorders: callers hand in text, bytes and mappings. docs/secrets.md shows the
table to users.
"""
