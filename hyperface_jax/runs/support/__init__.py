"""What all stages share: settings, results, the watch, jobs. Only ``runs`` and ``cli`` import it."""
