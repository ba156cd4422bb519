/** The version of l4lab, as in package.json; broker and components must be of the same one. */
export const VERSION = '0.1.0';
