//! Connections for tests.

use plumb_record::{FlowPhase, FlowProfile, FlowProtocol, FlowState, WallTime};
use plumb_wire::Instant;

use super::model::{Connection, Model};

/// An open connection of which only the addresses are known.
pub(super) fn profile(id: u64) -> FlowProfile {
    let mut profile = FlowProfile::new(
        id,
        FlowProtocol::Tcp,
        "192.0.2.1:40000".parse().unwrap(),
        "192.0.2.2:443".parse().unwrap(),
    );
    profile.state = FlowState::Established;
    profile.phase = FlowPhase::Open;
    (profile.start, profile.end) = (WallTime(0), WallTime(0));
    profile
}

/// One that was seen once, at the start.
pub(super) fn connection(profile: FlowProfile) -> Connection {
    let id = profile.flow_id;
    let mut model = Model::default();
    model.begin_look();
    model.handle_look(profile, Instant::ZERO);
    model.end_look(Instant::ZERO);
    model.get((0, id)).unwrap().clone()
}
