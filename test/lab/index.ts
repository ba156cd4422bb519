/** `l4lab/testing`: labs in containers for integration tests. */
export { type Address, type Guest, Lab, type Port, startLab, type Task, type WireFrame } from './lab.ts';
export type { LabOptions } from './options.ts';
export type { TaskEnd } from './records.ts';
