//! Whether the kernel can run machines.

use std::io::{self, ErrorKind};

use kvm_ioctls::Kvm;

use crate::Unavailable;

/// The version of the interface: the only one that there has been since Linux 2.6.22
/// (Documentation/virt/kvm/api.rst, `KVM_GET_API_VERSION`).
const VERSION: i32 = 12;

/// Opens KVM.
///
/// # Errors
/// If it cannot be opened, or is something else.
pub(crate) fn open() -> Result<Kvm, Unavailable> {
    let kvm = Kvm::new().map_err(|error| refused(&error.into()))?;
    match kvm.get_api_version() {
        VERSION => Ok(kvm),
        version => Err(Unavailable {
            reason: format!("/dev/kvm speaks version {version}, not {VERSION}"),
            remedy: None,
        }),
    }
}

fn refused(error: &io::Error) -> Unavailable {
    let remedy = if error.kind() == ErrorKind::NotFound {
        Some("sudo modprobe -a kvm_intel kvm_amd".into())
    } else if error.kind() == ErrorKind::PermissionDenied {
        Some("sudo chmod 666 /dev/kvm".into())
    } else {
        None
    };
    Unavailable {
        reason: format!("cannot open /dev/kvm: {error}"),
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_helps_where_something_does() {
        let remedy = |kind: ErrorKind| refused(&kind.into()).remedy;
        let missing = remedy(ErrorKind::NotFound);
        assert_eq!(
            missing.as_deref(),
            Some("sudo modprobe -a kvm_intel kvm_amd")
        );
        let denied = remedy(ErrorKind::PermissionDenied);
        assert_eq!(denied.as_deref(), Some("sudo chmod 666 /dev/kvm"));
        assert_eq!(remedy(ErrorKind::Interrupted), None);
    }
}
