"""What a vector gives away about its text, and what defences change: leak and retrieval quality side by side."""
