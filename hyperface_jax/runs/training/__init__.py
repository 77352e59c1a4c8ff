"""The stage that trains a recognizer: settings, job, loop, log, validation, results."""
