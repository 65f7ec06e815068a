"""The place `sandbox`: environments in the store, each with a writable layer over the locked ones."""
