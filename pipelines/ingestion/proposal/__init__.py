"""What a look at an export proposes for `params.yaml`, so that a person need not write a pattern or find a canvas."""
