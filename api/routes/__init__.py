"""The routes, one noun a file. Each file gives its operations as a tuple."""
