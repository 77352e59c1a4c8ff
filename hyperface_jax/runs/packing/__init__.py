"""The stage that packs: settings, files, job, loop, results; a spherical code as it is."""
