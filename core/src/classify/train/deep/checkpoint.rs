//! The encoder's weights on disk: MiniLM's to start from, and our own in between.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use super::adam::Weight;
use super::net::{Net, WIDTH};

/// The word table's name in Hugging Face's BERT.
pub const WORDS: &str = "embeddings.word_embeddings.weight";
const SHAPES: &str = "embeddings.shape_embeddings.weight";
/// Case shapes that a token may have.
pub const SHAPE_COUNT: usize = 8;

/// Reads weights; layers above `layers` are left out, and the shape table is zero where the file
/// has none.
pub fn load(file: &Path, layers: usize, device: &Device) -> Result<Net> {
    let tensors = candle_core::safetensors::load(file, &Device::Cpu)?;
    let missing = |error: candle_core::Error| error.context(file.display().to_string());
    of(tensors, layers, device).map_err(missing)
}

/// The same from tensors by name.
pub fn of(tensors: HashMap<String, Tensor>, layers: usize, device: &Device) -> Result<Net> {
    let mut weights = BTreeMap::new();
    let mut words = None;
    for (name, tensor) in tensors {
        let name = name.strip_prefix("bert.").unwrap_or(&name).to_owned();
        if name.starts_with("pooler") || name == "embeddings.position_ids" || above(&name, layers) {
            continue;
        }
        let shape = tensor.dims().to_vec();
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if name == WORDS {
            words = Some(Weight::new(values, shape));
        } else {
            weights.insert(name, Weight::new(values, shape));
        }
    }
    weights
        .entry(SHAPES.to_owned())
        .or_insert_with(|| Weight::new(vec![0.0; SHAPE_COUNT * WIDTH], vec![SHAPE_COUNT, WIDTH]));
    let words = words.ok_or_else(|| candle_core::Error::Msg(format!("there is no {WORDS}")))?;
    Ok(Net::new(layers, words, weights, device.clone()))
}

fn above(name: &str, layers: usize) -> bool {
    let layer = name
        .strip_prefix("encoder.layer.")
        .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    layer.is_some_and(|layer| layer >= layers)
}

/// All weights as a safetensors file.
pub fn bytes(net: &Net) -> Result<Vec<u8>> {
    let all = net.weights.iter().map(|(name, weight)| (name.as_str(), weight));
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, weight) in all.chain([(WORDS, &net.words)]) {
        let tensor = Tensor::from_slice(&weight.values, weight.shape.as_slice(), &Device::Cpu)?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(safetensors::serialize(&tensors, None)?)
}

/// Writes all weights; the file is whole or not there.
pub fn save(net: &Net, file: &Path) -> Result<()> {
    let part = file.with_extension("part");
    std::fs::write(&part, bytes(net)?)?;
    std::fs::rename(&part, file)?;
    Ok(())
}
