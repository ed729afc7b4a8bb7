//! When a thread runs (sched(7)).

use rustix::thread::Pid;

use crate::{Error, sys};

/// How a thread is scheduled against others. Both are for threads that need no guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// SCHED_OTHER: its fair share, by its nice value.
    Other,
    /// SCHED_IDLE: what nobody else wants. Any other thread that wakes up runs at once in its place.
    /// To come back from it takes CAP_SYS_NICE, or an RLIMIT_NICE of at least 20.
    Idle,
}

impl Policy {
    const fn number(self) -> libc::c_int {
        match self {
            Self::Other => libc::SCHED_OTHER,
            Self::Idle => libc::SCHED_IDLE,
        }
    }
}

/// Gives a thread of this process, or of another one of the same user, a policy.
///
/// # Errors
/// If there is no such thread, or it may not leave [`Policy::Idle`].
pub fn set_policy(thread: Pid, policy: Policy) -> Result<(), Error> {
    sys::set_scheduler(thread, policy.number())
        .map_err(|e| Error::system("schedule", format!("thread {}", thread.as_raw_nonzero()), e))
}

#[cfg(test)]
mod tests {
    use rustix::thread::gettid;

    use super::*;
    use crate::{Capability, capability};

    /// The policy of the calling thread, from the 41st field of stat (proc(5)).
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(38).unwrap().to_owned()
    }

    #[test]
    fn a_thread_comes_back_from_idle_with_one_capability() {
        if !capability::has(Capability::SysNice) {
            assert!(std::env::var_os("TESTS_NO_SKIP").is_none(), "CAP_SYS_NICE");
            eprintln!("skipped: there is no CAP_SYS_NICE");
            return;
        }
        std::thread::spawn(|| {
            capability::drop_all_but(Capability::SysNice).unwrap();
            assert_eq!(policy(), "0");
            set_policy(gettid(), Policy::Idle).unwrap();
            assert_eq!(policy(), "5");
            set_policy(gettid(), Policy::Other).unwrap();
            assert_eq!(policy(), "0");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_that_is_not_there_has_no_policy() {
        let none = Pid::from_raw(i32::MAX).unwrap();
        let error = set_policy(none, Policy::Idle).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot schedule thread 2147483647: No such process"),
            "{error}"
        );
    }
}
