//! Runs the SIP gateway as a process of its own.
fn main() -> std::process::ExitCode {
    offhook_runtime::main(&offhook_sip::SIP_GATEWAY)
}
