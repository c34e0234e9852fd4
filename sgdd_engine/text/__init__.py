"""Text to ids and to vectors: the only users of `transformers` and `tokenizers`."""
