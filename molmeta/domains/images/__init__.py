"""Images: sources of N-way episodes as gathers from one uint8 array, and Conv-4. Pillow decodes; nothing else."""
