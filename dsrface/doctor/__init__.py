"""Know what DataLoader workers will do before the job runs."""
