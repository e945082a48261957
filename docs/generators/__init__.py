"""The pages of `docs/reference`, one module each with a function `page` that returns Markdown."""
