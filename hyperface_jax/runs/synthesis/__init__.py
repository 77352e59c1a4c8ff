"""The stage that draws face images of packed embeddings. Only ``runs`` and ``cli`` import it."""
