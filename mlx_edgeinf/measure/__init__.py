"""What evaluation and benchmark are made of: ways of reading, statistics, results on disk, pictures."""
