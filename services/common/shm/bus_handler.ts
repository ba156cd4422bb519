/**
 * The handler of SIGBUS for bus_guard.ts in machine code: handler(signal, info, context), position-independent, clobbers only
 * what a function may. It works on
 *
 *   table   +0 number of entries   +8 mappings lost so far   +16 zeros (a kernel sigaction: the default action)
 *           +64 entries of 24 bytes: address, bytes, lost (0 or 1)
 *
 * The entry that the address lies in becomes private zeros and is marked. For an address in none of them the default
 * action is restored: the instruction fails again, and that ends the process.
 */

/** Makes the code for a table at a native address; undefined where there is none for this architecture (`process.arch`). */
export function handlerCode(arch: string): ((table: number) => Uint8Array) | undefined {
  return arch === 'x64' ? x64 : arch === 'arm64' ? arm64 : undefined;
}

function littleEndian(address: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(address));
  return bytes.toString('hex');
}

function x64(table: number): Uint8Array {
  const t = littleEndian(table);
  const code = [
    '488b4610', //         mov  rax, [rsi+16]        address that could not be reached
    `49ba${t}`, //         mov  r10, table
    '498b0a', //           mov  rcx, [r10]
    '4d8d4a40', //         lea  r9, [r10+64]
    '4885c9', //     next: test rcx, rcx
    '744a', //             jz   not_ours
    '498b39', //           mov  rdi, [r9]            address
    '498b7108', //         mov  rsi, [r9+8]          bytes
    '4889c2', //           mov  rdx, rax
    '4829fa', //           sub  rdx, rdi
    '4839f2', //           cmp  rdx, rsi
    '7209', //             jb   found
    '4983c118', //         add  r9, 24
    '48ffc9', //           dec  rcx
    'ebe0', //             jmp  next
    '49c7411001000000', // found: mov qword [r9+16], 1
    'f049ff4208', //       lock inc qword [r10+8]
    'ba03000000', //       mov  edx, PROT_READ|PROT_WRITE
    '41ba32400000', //     mov  r10d, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_NORESERVE
    '49c7c0ffffffff', //   mov  r8, -1
    '4531c9', //           xor  r9d, r9d
    'b809000000', //       mov  eax, 9               mmap
    '0f05', //             syscall
    '4885c0', //           test rax, rax
    '7801', //             js   not_ours
    'c3', //               ret                       the instruction is done again
    `48be${t}`, // not_ours: mov rsi, table
    '4883c610', //         add  rsi, 16
    'bf07000000', //       mov  edi, SIGBUS
    '31d2', //             xor  edx, edx
    '41ba08000000', //     mov  r10d, 8
    'b80d000000', //       mov  eax, 13              rt_sigaction: back to the default
    '0f05', //             syscall
    'c3', //               ret                       it fails again, and ends the process
  ];
  return Buffer.from(code.join(''), 'hex');
}

function arm64(table: number): Uint8Array {
  const code = [
    0xf9400823, //         ldr  x3, [x1, #16]        address that could not be reached
    0x5800042c, //         ldr  x12, table
    0xf9400185, //         ldr  x5, [x12]
    0x91010186, //         add  x6, x12, #64
    0xb40002e5, //   next: cbz  x5, not_ours
    0xa94004c0, //         ldp  x0, x1, [x6]         address, bytes
    0xcb000067, //         sub  x7, x3, x0
    0xeb0100ff, //         cmp  x7, x1
    0x54000083, //         b.lo found
    0x910060c6, //         add  x6, x6, #24
    0xd10004a5, //         sub  x5, x5, #1
    0x17fffff9, //         b    next
    0xd2800027, //  found: mov  x7, #1
    0xf90008c7, //         str  x7, [x6, #16]
    0x91002189, //         add  x9, x12, #8
    0xc85f7d2a, //  again: ldxr x10, [x9]
    0x9100054a, //         add  x10, x10, #1
    0xc80b7d2a, //         stxr w11, x10, [x9]
    0x35ffffab, //         cbnz w11, again
    0xd2800062, //         mov  x2, #PROT_READ|PROT_WRITE
    0xd2880643, //         mov  x3, #MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_NORESERVE
    0x92800004, //         mov  x4, #-1
    0xd2800005, //         mov  x5, #0
    0xd2801bc8, //         mov  x8, #222             mmap
    0xd4000001, //         svc  #0
    0xb7f80040, //         tbnz x0, #63, not_ours
    0xd65f03c0, //         ret                       the instruction is done again
    0x91004181, // not_ours: add x1, x12, #16
    0xd28000e0, //         mov  x0, #SIGBUS
    0xd2800002, //         mov  x2, #0
    0xd2800103, //         mov  x3, #8
    0xd28010c8, //         mov  x8, #134             rt_sigaction: back to the default
    0xd4000001, //         svc  #0
    0xd65f03c0, //         ret                       it fails again, and ends the process
  ];
  const words = Buffer.alloc(4 * code.length);
  code.forEach((word, n) => void words.writeUInt32LE(word, 4 * n));
  return Buffer.concat([words, Buffer.from(littleEndian(table), 'hex')]); // table: .quad
}
