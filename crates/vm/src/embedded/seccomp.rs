//! Which system calls the threads of the monitor may make.
//!
//! The filters are small enough to be written as the kernel takes them: a constant table, where a
//! library would build it at every start, on a heap that is otherwise not needed any more.

use std::io;

/// A filter of system calls. Whatever it does not allow kills the process.
#[derive(Debug)]
pub(super) struct Filter {
    calls: &'static [i64],
    controls: &'static [u32],
}

/// The thread that runs the virtual CPU.
pub(super) const VCPU: Filter = Filter {
    calls: &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_epoll_ctl,
        libc::SYS_futex,
        libc::SYS_brk,
        libc::SYS_exit_group,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
    ],
    controls: &[KVM_RUN, KVM_IRQ_LINE],
};

/// The thread that waits for packets and for the channel.
pub(super) const EVENTS: Filter = Filter {
    calls: &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_futex,
        libc::SYS_brk,
        libc::SYS_exit_group,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
    ],
    controls: &[KVM_IRQ_LINE],
};

const KVM_RUN: u32 = 0xae80;
const KVM_IRQ_LINE: u32 = 0x4008_ae61;

/// AUDIT_ARCH_X86_64 (include/uapi/linux/audit.h).
const ARCH: u32 = 0xc000_003e;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const SECOND_ARGUMENT: u32 = 24;

impl Filter {
    /// Restricts the calling thread, and those that it starts. It has to have given up new
    /// privileges.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn apply(&self) -> io::Result<()> {
        let program = self.program();
        let header = libc::sock_fprog {
            len: u16::try_from(program.len()).map_err(io::Error::other)?,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: the header and the program that it points to live through the call, which only
        // reads them.
        let done = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const header,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn program(&self) -> Vec<libc::sock_filter> {
        let kill = op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS);
        let allow = op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
        let mut program = Vec::with_capacity(8 + 2 * (self.calls.len() + self.controls.len()));
        program.extend([load(ARCHITECTURE), equal(ARCH, 1), kill, load(NUMBER)]);
        for call in self.calls {
            program.extend([unless(number(*call), 1), allow]);
        }
        program.extend([equal(number(libc::SYS_ioctl), 1), kill]);
        // The kernel takes 32 bits of it, too.
        program.push(load(SECOND_ARGUMENT));
        for control in self.controls {
            program.extend([unless(*control, 1), allow]);
        }
        program.push(kill);
        program
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of system calls are small and positive"
)]
const fn number(call: i64) -> u32 {
    call as u32
}

fn op(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

fn load(offset: u32) -> libc::sock_filter {
    op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Skips `skip` instructions if the value is `k`.
fn equal(k: u32, skip: u8) -> libc::sock_filter {
    jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, skip, 0)
}

/// Skips `skip` instructions if the value is not `k`.
fn unless(k: u32, skip: u8) -> libc::sock_filter {
    jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, 0, skip)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = u16::try_from(code).unwrap_or(0);
    libc::sock_filter { code, jt, jf, k }
}
