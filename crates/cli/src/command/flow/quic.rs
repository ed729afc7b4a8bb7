//! Profiles that processes report of their own QUIC connections.

use core::mem::MaybeUninit;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use plumb_record::{FlowProfile, FlowProtocol};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg, sockopt,
};

/// Longest report that is read: a profile is some 1 kB.
const MOST_LEN: usize = 16 * 1024;
/// Reports that are read at once, so that nobody who floods the socket keeps the rest waiting.
const MOST_AT_ONCE: usize = 1000;

/// The socket that reports come to. Its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct QuicSocket {
    socket: UnixDatagram,
    path: PathBuf,
    buffer: Vec<u8>,
    malformed: u64,
}

impl QuicSocket {
    /// Makes the socket at `path`. A socket that nobody reads any more is replaced; everybody may
    /// write to it, and the kernel says who does.
    pub(super) fn bind(path: &Path) -> anyhow::Result<Self> {
        let at = || path.display();
        if let Ok(meta) = path.symlink_metadata() {
            if !meta.file_type().is_socket() {
                bail!("{} is there and is no socket", at());
            }
            let probe = UnixDatagram::unbound()?;
            if probe.connect(path).is_ok() {
                bail!("{} is in use by another process", at());
            }
            std::fs::remove_file(path).with_context(|| format!("cannot replace {}", at()))?;
        }
        let socket =
            UnixDatagram::bind(path).with_context(|| format!("cannot make the socket {}", at()))?;
        let this = Self {
            socket,
            path: path.to_owned(),
            buffer: vec![0; MOST_LEN],
            malformed: 0,
        };
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))
            .with_context(|| format!("cannot open {} for everybody", at()))?;
        this.socket.set_nonblocking(true)?;
        sockopt::set_socket_passcred(&this.socket, true)?;
        Ok(this)
    }

    /// Takes what has come, with the process as the kernel knows it.
    pub(super) fn take(&mut self) -> io::Result<Vec<FlowProfile>> {
        let mut profiles = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut self.buffer)],
                &mut control,
                RecvFlags::DONTWAIT,
            );
            let message = match received {
                Ok(message) => message,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let sender = control.drain().find_map(|message| {
                if let RecvAncillaryMessage::ScmCredentials(who) = message {
                    Some(who.pid)
                } else {
                    None
                }
            });
            let text = self.buffer.get(..message.bytes).unwrap_or_default();
            let whole = !message.flags.contains(ReturnFlags::TRUNC);
            let profile = serde_json::from_slice::<FlowProfile>(text).ok();
            match profile.filter(|profile| whole && profile.protocol == FlowProtocol::Quic) {
                Some(mut profile) => {
                    profile.pid = sender.and_then(|pid| u32::try_from(pid.as_raw_pid()).ok());
                    profiles.push(profile);
                }
                None => self.malformed += 1,
            }
        }
        Ok(profiles)
    }

    /// Reports that were no profiles of QUIC connections.
    pub(super) const fn malformed(&self) -> u64 {
        self.malformed
    }
}

impl AsFd for QuicSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for QuicSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use plumb_record::FlowProfile;

    use super::*;

    fn path(test: &str) -> PathBuf {
        std::env::temp_dir().join(format!("plumb-quic-socket-{test}-{}", std::process::id()))
    }

    fn profile() -> FlowProfile {
        let socket = |text: &str| text.parse().unwrap();
        let mut profile = FlowProfile::new(
            7,
            FlowProtocol::Quic,
            socket("192.0.2.1:4000"),
            socket("192.0.2.2:443"),
        );
        profile.pid = Some(1);
        profile
    }

    #[test]
    fn a_report_is_read_with_the_process_that_sent_it_and_nonsense_is_counted() {
        let path = path("read");
        let mut socket = QuicSocket::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let mut tcp = profile();
        tcp.protocol = FlowProtocol::Tcp;
        let long = vec![b' '; MOST_LEN + 1];
        for text in [
            serde_json::to_vec(&profile()).unwrap(),
            serde_json::to_vec(&tcp).unwrap(),
            b"{}".to_vec(),
            long,
        ] {
            sender.send_to(&text, &path).unwrap();
        }
        let taken = socket.take().unwrap();
        let mut expected = profile();
        expected.pid = Some(std::process::id());
        assert_eq!(taken, [expected]);
        assert_eq!(socket.malformed(), 3);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let path = path("replace");
        drop(UnixDatagram::bind(&path).unwrap());
        let socket = QuicSocket::bind(&path).unwrap();
        let error = QuicSocket::bind(&path).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        drop(socket);
        std::fs::write(&path, "precious").unwrap();
        let error = QuicSocket::bind(&path).unwrap_err();
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
    }
}
