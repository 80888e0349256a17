"""The main job: from an orthophoto to a finished land-cover layer."""
