# Exceptions and interrupts. All of it is assembly: no Rust code ever runs in ring 0.

.section .boot, "awx", @progbits

# Exceptions with an error code: 8, 10 to 14, 17, 21, 29, 30.
.irp n, 0,1,2,3,4,5,6,7,9,15,16,18,19,20,22,23,24,25,26,27,28,31
exception_\n:
    push 0
    push \n
    jmp exception
.endr
.irp n, 8,10,11,12,14,17,21,29,30
exception_\n:
    push \n
    jmp exception
.endr

# Goes on in ring 3 with exception(vector, error, rip, rsp, cr2), on another stack.
exception:
    pop rdi
    pop rsi
    mov rdx, [rsp]
    mov rcx, [rsp + 24]
    mov r8, cr2
    mov qword ptr [rsp], offset exception_report
    mov qword ptr [rsp + 8], USER_CODE
    mov qword ptr [rsp + 16], 0x3002
    mov qword ptr [rsp + 24], STACK_FAULT - 8
    mov qword ptr [rsp + 32], USER_DATA
    iretq

# General protection: an instruction that ring 3 may not execute. A few are executed for it; where
# I/O privilege is honoured, in and out do not come here at all.
# Stack: rbx, error code, rip, cs, rflags, rsp, ss.
protection:
    push rbx
    test byte ptr [rsp + 24], 3
    jz 9f
    mov rbx, [rsp + 16]
    mov ebx, [rbx]
    cmp bl, 0xf4
    je 2f
    cmp bl, 0xee
    je 3f
    cmp bl, 0xef
    je 4f
    cmp bl, 0xec
    je 5f
    cmp bl, 0xed
    je 6f
    cmp bx, 0x300f
    je 7f
    cmp bx, 0x320f
    je 8f
9:  pop rbx
    push 13
    jmp exception
2:  sti                                 # takes effect after hlt has begun: no interrupt is lost
    hlt
    cli
    jmp 1f
3:  out dx, al
    jmp 1f
4:  out dx, eax
    jmp 1f
5:  in al, dx
    jmp 1f
6:  in eax, dx
    jmp 1f
7:  wrmsr
    jmp 0f
8:  rdmsr
0:  inc qword ptr [rsp + 16]
1:  inc qword ptr [rsp + 16]
    pop rbx
    add rsp, 8
    iretq

# Interrupts are only open in the hlt above.
timer:
    inc dword ptr [rip + interrupts_timer]
    jmp acknowledge
device:
    inc dword ptr [rip + interrupts_device]
acknowledge:
    push rax
    mov eax, 0xfee000b0                 # end of interrupt
    mov dword ptr [rax], 0
    pop rax
spurious:
    iretq

.section .bss, "aw", @nobits
.balign 4
.global interrupts_timer
interrupts_timer: .skip 4
.global interrupts_device
interrupts_device: .skip 4
