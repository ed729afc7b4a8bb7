//! Entry, descriptor tables, traps: all the assembly.

use core::arch::global_asm;

global_asm!(include_str!("tables.s"));
global_asm!(include_str!("entry.s"));
global_asm!(include_str!("traps.s"));
