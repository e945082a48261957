"""The Bento: what answers over HTTP."""
