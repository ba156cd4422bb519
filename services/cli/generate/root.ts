/** The checkout, or the directory of the image: where `l4lab` is. */
export const ROOT = import.meta.dirname.replace(/(\/dist)?\/services\/cli\/generate$/, '');
