# Descriptor tables, in memory as the processor reads them. This is the first thing in the image, at
# BASE, so that the assembler knows every address in this section: building the tables at run time
# would cost hundreds of instructions in ring 0, which are emulated under some hypervisors.

.set BASE, 0x200000
.set KERNEL_CODE, 0x10
.set USER_DATA, 0x2b
.set USER_CODE, 0x33
.set TASK, 0x40
# What an interrupt vector means: see src/interrupts.rs.
.set VECTOR_TIMER, 0x20
.set VECTOR_DEVICE, 0x21
.set VECTORS, 0x40
# Stacks. Below the image: they take no room in the file, and only touched pages cost memory.
.set STACK, BASE
.set STACK_FAULT, BASE - 0x80000

.section .boot, "awx", @progbits
boot:

.balign 16
gdt:
    .quad 0
    .quad 0
    .quad 0x00af9b000000ffff            # 0x10: ring 0 code, 64 bits
    .quad 0x00cf93000000ffff            # 0x18: ring 0 data
    .quad 0
    .quad 0x00cff3000000ffff            # 0x2b: ring 3 data
    .quad 0x00affb000000ffff            # 0x33: ring 3 code, 64 bits
    .quad 0
    .word task_end - task - 1           # 0x40: task state
    .word task - boot
    .byte BASE >> 16, 0x89, 0, 0
    .quad 0
gdt_end:

gdt_pointer:
    .word gdt_end - gdt - 1
    .quad BASE + gdt - boot
idt_pointer:
    .word VECTORS * 16 - 1
    .quad BASE + idt - boot

# Task state segment: only its stacks matter. Every gate has a stack of its own, so that nothing is
# ever pushed below the stack pointer of interrupted code, which may use the red zone there.
.balign 8
task:
    .long 0
    .quad trap_stack                    # ring 0
    .quad 0, 0, 0
    .quad trap_stack                    # IST1: exceptions
    .quad interrupt_stack               # IST2: interrupts
    .quad 0, 0, 0, 0, 0, 0
    .word 0, task_end - task
task_end:

.macro gate handler, stack
    .word \handler - boot               # BASE has no low bits
    .word KERNEL_CODE
    .byte \stack, 0x8e
    .word BASE >> 16
    .quad 0
.endm

.balign 16
idt:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12
    gate exception_\n, 1
    .endr
    gate protection, 1
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    gate exception_\n, 1
    .endr
    gate timer, 2
    gate device, 2
    .rept VECTORS - VECTOR_DEVICE - 1
    gate spurious, 2
    .endr

# On a page boundary, by the linker script: alignment asked for here would cost that much of the file.
.section .tables, "aw", @nobits
page_map: .skip 4096
.global page_pointers
page_pointers: .skip 4096
.global page_directories
page_directories: .skip 4 * 4096
    .skip 1024
trap_stack:
    .skip 1024
interrupt_stack:
