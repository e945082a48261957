// Why an image cannot be used: the codes of fatescope/errors.py, and `unsupported` for what the service reads and the browser does not.

/** The reason why an image, or a page of one, is refused. */
export class ImageError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Return the error for an image that the service reads, but not the page in the browser. */
export const unsupported = (name, what) =>
  new ImageError(
    "unsupported",
    `${name}: ${what}, which cannot be read in the browser; export it as an uncompressed TIFF, or send it to the service`,
  );

/** Return the error for a file that breaks off or contradicts itself. */
export const damaged = (name, what) =>
  new ImageError("truncated", `${name}: cannot be decoded (${what}); export the file again`);
