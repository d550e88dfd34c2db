//! The binary: an allocator, and everything else in [`stellwerk::cli`].

// A gateway makes and drops many small strings on several threads. Under the load of the bench
// mimalloc served them quicker than the system's allocator and gave memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    stellwerk::cli::main()
}
