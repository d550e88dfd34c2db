//! Where the model computes: `[classify] device`.
//!
//! CUDA and Metal are there when the binary was built with the feature of that name. `auto` takes
//! the best that works and never fails; a device that was asked for by name fails with the way
//! out.

use candle_core::Device;

use crate::reply::Words;

/// A device was asked for that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{}", words.en)]
pub struct DeviceError {
    /// What to tell people, with the way out.
    pub words: Words,
    #[source]
    cause: Option<candle_core::Error>,
}

/// Opens what `[classify] device` names: `auto`, `cpu`, `cuda` or `metal`.
///
/// # Errors
/// [`DeviceError`] when it is not there; `auto` and `cpu` always are.
pub fn open(wanted: &str) -> Result<Device, DeviceError> {
    match wanted {
        "cuda" => cuda(),
        "metal" => metal(),
        "auto" => Ok(cuda().or_else(|_| metal()).unwrap_or(Device::Cpu)),
        _ => Ok(Device::Cpu),
    }
}

fn cuda() -> Result<Device, DeviceError> {
    match cfg!(feature = "cuda") {
        true => Device::new_cuda(0).map_err(|cause| not_found("cuda", cause)),
        false => Err(not_built("cuda")),
    }
}

fn metal() -> Result<Device, DeviceError> {
    match cfg!(feature = "metal") {
        true => Device::new_metal(0).map_err(|cause| not_found("metal", cause)),
        false => Err(not_built("metal")),
    }
}

fn not_built(name: &str) -> DeviceError {
    let words = Words::new(
        format!(
            "[classify] device is \"{name}\", but this binary was built without it; build with \
             `--features {name}`, or set device = \"auto\""
        ),
        format!(
            "[classify] device ist \"{name}\", aber dieses Programm wurde ohne gebaut; mit \
             `--features {name}` bauen oder device = \"auto\" setzen"
        ),
    );
    DeviceError { words, cause: None }
}

fn not_found(name: &str, cause: candle_core::Error) -> DeviceError {
    let words = Words::new(
        format!(
            "[classify] device is \"{name}\", but none could be opened; check its driver, or set \
             device = \"auto\""
        ),
        format!(
            "[classify] device ist \"{name}\", aber es lässt sich nicht öffnen; den Treiber prüfen \
             oder device = \"auto\" setzen"
        ),
    );
    DeviceError { words, cause: Some(cause) }
}

#[cfg(test)]
mod tests {
    use super::open;

    #[test]
    fn auto_and_cpu_always_work() {
        assert!(open("auto").is_ok());
        assert!(open("cpu").unwrap().is_cpu());
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_was_not_built_in_says_how_to_get_it() {
        let refused = open("cuda").unwrap_err();
        assert!(refused.to_string().contains("--features cuda"), "{refused}");
        assert!(refused.words.de.contains("device = \"auto\""));
    }
}
