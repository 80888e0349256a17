"""The certificate of seams: how far tiles differ from the whole image."""
