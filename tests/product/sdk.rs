//! The official SDKs, unchanged, against every dialect of upstream.

use std::process::Stdio;
use std::time::Duration;

use stellwerk_tests::World;

/// Python with the SDKs. `cargo xtask test` installs it and says where.
fn python() -> std::path::PathBuf {
    let python = std::env::var_os("STELLWERK_TEST_PYTHON");
    python.expect("STELLWERK_TEST_PYTHON; `cargo xtask test sdk` sets it").into()
}

/// A Bedrock that is asked with signatures.
const SIGNED: &str = "access_key = \"geheim-access\"\nsecret_key = \"geheim-secret\"";

async fn world(kind: &str, more: &str) -> World {
    let embedding = "kind = \"embedding\"\ninput_per_million = \"1\"\noutput_per_million = \"0\"\n\
                     price_currency = \"EUR\"";
    World::empty()
        .await
        .provider_with("one", kind, "world", more)
        .model("mini", "one", "economy")
        .model_with("vectors", "one", "economy", embedding)
        .start()
        .await
}

async fn run(script: &str, arguments: &[&str]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let mut command = tokio::process::Command::new(python());
    command.arg(folder.join(script)).args(arguments).env("NO_PROXY", "127.0.0.1");
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
    let output = ended.expect("the SDK's checks end").expect("Python starts");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn openai_sdk(kind: &str, embeddings: &str) {
    let world = world(kind, "").await;
    run("openai_sdk.py", &[&world.url("/v1"), &world.key, "mini", embeddings]).await;
    let image = world.vendor.seen().iter().any(|seen| seen.body.to_string().contains("iVBORw0KG"));
    assert!(image, "the image reached the vendor");
}

async fn anthropic_sdk(kind: &str, more: &str) {
    let world = world(kind, more).await;
    run("anthropic_sdk.py", &[&world.url(""), &world.key, "mini"]).await;
    let image = world.vendor.seen().iter().any(|seen| seen.body.to_string().contains("iVBORw0KG"));
    assert!(image, "the image reached the vendor");
}

#[tokio::test]
async fn the_openai_sdk_speaks_to_openai() {
    openai_sdk("openai", "vectors").await;
}

#[tokio::test]
async fn the_openai_sdk_speaks_to_azure() {
    openai_sdk("azure", "vectors").await;
}

#[tokio::test]
async fn the_openai_sdk_speaks_to_anthropic() {
    openai_sdk("anthropic", "-").await;
}

#[tokio::test]
async fn the_openai_sdk_speaks_to_gemini() {
    openai_sdk("gemini", "-").await;
}

#[tokio::test]
async fn the_openai_sdk_speaks_to_bedrock() {
    openai_sdk("bedrock", "-").await;
}

#[tokio::test]
async fn the_anthropic_sdk_speaks_to_openai() {
    anthropic_sdk("openai", "").await;
}

#[tokio::test]
async fn the_anthropic_sdk_speaks_to_azure() {
    anthropic_sdk("azure", "").await;
}

#[tokio::test]
async fn the_anthropic_sdk_speaks_to_anthropic() {
    anthropic_sdk("anthropic", "").await;
}

#[tokio::test]
async fn the_anthropic_sdk_speaks_to_gemini() {
    anthropic_sdk("gemini", "").await;
}

#[tokio::test]
async fn the_anthropic_sdk_speaks_to_bedrock() {
    anthropic_sdk("bedrock", SIGNED).await;
}
