# From whoever loaded the image to Rust in ring 3, in as few instructions as possible.

.section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18                      # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad start32

.section .boot, "awx", @progbits

# Page tables for the first 4 MiB: what the loader left below the image, and the image. The rest is
# entered from ring 3 (src/memory.rs). The upper halves of all entries are zero. The same text serves
# both modes; ebp is the address of the tables, a page each.
.macro fill_tables
    mov dword ptr [ebp], offset page_pointers + 7
    mov dword ptr [ebp + 0x1000], offset page_directories + 7
    mov dword ptr [ebp + 0x2000], 0x87
    mov dword ptr [ebp + 0x2008], BASE + 0x87
.endm

# PVH (docs/misc/pvh.pandoc of Xen): 32-bit protected mode, no paging, ebx = hvm_start_info.
.code32
.global start32
start32:
    mov esi, ebx
    mov edi, 1                          # BootProtocol::Pvh
    mov ebp, offset page_map
    fill_tables
    mov eax, 0x620                      # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov cr3, ebp
    mov ecx, 0xc0000080                 # EFER
    xor edx, edx
    mov eax, 0x100                      # LME
    wrmsr
    mov eax, 0x80000033                 # PG, NE, ET, MP, PE
    mov cr0, eax
    lgdt [gdt_pointer]
    .byte 0xea                          # jmp far KERNEL_CODE:enter
    .long enter
    .word KERNEL_CODE

# 64-bit Linux entry (Documentation/arch/x86/boot.rst): long mode, identity mapped, rsi = boot_params.
.code64
.global start64
start64:
    mov edi, 2                          # BootProtocol::Linux
    mov ebp, offset page_map
    fill_tables
    mov eax, 0x620
    mov cr4, rax
    mov cr3, rbp
    mov eax, 0x80000033
    mov cr0, rax
    mov esp, STACK
    lgdt [rip + gdt_pointer]
    push KERNEL_CODE
    push offset enter
    retfq

# rdi = protocol, rsi = what the loader wants to tell.
enter:
    mov esp, STACK
    lidt [rip + idt_pointer]
    mov eax, TASK
    ltr ax
    # Mask the 8259s: their vectors would be taken for exceptions.
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    push USER_DATA
    push STACK - 8                      # as after a call
    push 0x3002                         # IOPL 3, interrupts off
    push USER_CODE
    push offset main
    iretq
