//! The daemon's binary: everything is in the library.

use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = nova::failpoint::from_environment();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("nova: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(nova::cli::main());
    // Whatever still blocks a thread has been told to stop, and is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}
