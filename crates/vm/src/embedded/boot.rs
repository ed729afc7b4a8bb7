//! The 64-bit Linux boot protocol (Documentation/arch/x86/boot.rst in Linux): what the image finds
//! in memory and in the registers when it starts.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

use super::device::Memory;
use crate::Error;

/// Where the zero page is. It holds the command line and the descriptor table as well, where its
/// fields are of no use here, so that a machine touches one page and not three.
const ZERO_PAGE: u32 = 0x7000;
const COMMAND_LINE: u32 = 0x400;
/// Longest command line, as Firecracker has it.
pub(super) const COMMAND_LINE_MAX: u32 = 2047;
const GDT: u32 = 0xd00;
/// Page tables: the first GiB, mapped to itself.
const PML4: u64 = 0x9000;
const PDPT: u64 = 0xa000;
const PD: u64 = 0xb000;
/// Memory below this is the machine's, above it the image's.
pub(super) const LOW: u64 = 0x10_0000;
/// End of conventional memory (e820).
const CONVENTIONAL_END: u64 = 0x9_fc00;

const PAGE_PRESENT_WRITABLE: u64 = 3;
const PAGE_LARGE: u64 = 0x80;

/// Code and data, flat, as the table has them after two empty entries (§"64-bit Boot Protocol":
/// `__BOOT_CS` is 0x10 and `__BOOT_DS` is 0x18).
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// The boot module, in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Module {
    /// Physical address.
    pub(super) address: u32,
    /// Length in bytes.
    pub(super) len: u32,
}

/// Writes zero page, command line, descriptor and page tables into memory of `size` bytes.
///
/// # Errors
/// If the command line is too long or the memory too small.
pub(super) fn write(memory: &Memory, size: u64, line: &str, module: Module) -> Result<(), Error> {
    let most = COMMAND_LINE_MAX;
    if line.len() > most as usize {
        return Err(Error::Image(format!(
            "its command line has {} bytes, more than {most}",
            line.len()
        )));
    }
    let mut page = [0_u8; 0xd20];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1fe, &0xaa55_u16.to_le_bytes());
    put(0x202, b"HdrS");
    put(0x206, &0x020c_u16.to_le_bytes());
    put(0x210, &[0xff]);
    put(0x218, &module.address.to_le_bytes());
    put(0x21c, &module.len.to_le_bytes());
    put(0x228, &(ZERO_PAGE + COMMAND_LINE).to_le_bytes());
    put(0x238, &COMMAND_LINE_MAX.to_le_bytes());
    let usable = [(0, CONVENTIONAL_END), (LOW, size.saturating_sub(LOW))];
    put(0x1e8, &[2]);
    for (index, (from, len)) in usable.into_iter().enumerate() {
        let at = 0x2d0 + 20 * index;
        put(at, &from.to_le_bytes());
        put(at + 8, &len.to_le_bytes());
        put(at + 16, &1_u32.to_le_bytes());
    }
    put(COMMAND_LINE as usize, line.as_bytes());
    for (index, descriptor) in DESCRIPTORS.into_iter().enumerate() {
        put(GDT as usize + 8 * index, &descriptor.to_le_bytes());
    }
    let mut tables = [0_u8; 0x1000];
    for (index, entry) in tables.chunks_exact_mut(8).enumerate() {
        let large = ((index as u64) << 21) | PAGE_PRESENT_WRITABLE | PAGE_LARGE;
        entry.copy_from_slice(&large.to_le_bytes());
    }
    let put = |bytes: &[u8], at| {
        memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(|_| Error::Image("there is not enough memory to boot".into()))
    };
    put(&page, ZERO_PAGE.into())?;
    put(&(PDPT | PAGE_PRESENT_WRITABLE).to_le_bytes(), PML4)?;
    put(&(PD | PAGE_PRESENT_WRITABLE).to_le_bytes(), PDPT)?;
    put(&tables, PD)
}

/// Registers at the first instruction.
#[must_use]
pub(super) fn registers(entry: u64) -> kvm_regs {
    kvm_regs {
        rflags: 2,
        rip: entry,
        rsi: ZERO_PAGE.into(),
        // The end of the zero page: room for a few words before the image has its own stack.
        rsp: u64::from(ZERO_PAGE) + 0x1000,
        ..kvm_regs::default()
    }
}

/// Puts segments, page tables and 64-bit mode into the special registers.
pub(super) fn special_registers(registers: &mut kvm_sregs) {
    let data = kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: 0x18,
        type_: 3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    registers.cs = kvm_segment {
        selector: 0x10,
        type_: 11,
        db: 0,
        l: 1,
        ..data
    };
    registers.ds = data;
    registers.es = data;
    registers.fs = data;
    registers.gs = data;
    registers.ss = data;
    registers.gdt.base = (ZERO_PAGE + GDT).into();
    registers.gdt.limit = 8 * 4 - 1;
    registers.idt.base = 0;
    registers.idt.limit = 0;
    registers.cr3 = PML4;
    // Protection, extension type, numeric errors, paging.
    registers.cr0 = 0x8000_0031;
    // Physical address extension.
    registers.cr4 = 0x20;
    // Long mode, enabled and active.
    registers.efer = 0x500;
}
