"""Images to segment: synthetic examples, sample images of installed packages, uploads and volumes."""
