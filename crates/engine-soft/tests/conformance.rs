//! The engine-neutral conformance kit, on this engine.

use tearless_engine::conformance;
use tearless_engine_soft::SoftVm;

#[test]
fn conforms() {
    let make = || SoftVm::new().expect("this host can run the engine");
    conformance::run_all(make, &[]).unwrap_or_else(|failures| panic!("{failures}"));
}
