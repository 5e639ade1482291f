//! Weights: tensors as the file holds them.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Tensor};
use candle_onnx::onnx::TensorProto;
use candle_onnx::onnx::tensor_proto::DataLocation;

use super::tensor::{bounded, dims, dtype, tensor, type_name};

/// The tensor, if its bytes are there and no more of them than its shape has.
pub fn decoded(proto: &TensorProto) -> Result<Tensor> {
    if proto.data_location() == DataLocation::External || !proto.external_data.is_empty() {
        let location = proto.external_data.iter().find(|entry| entry.key == "location");
        let location = location.map_or("another file", |entry| entry.value.as_str());
        bail!("is in {location:?}: save the model with its weights inside, in one file");
    }
    ensure!(proto.segment.is_none(), "is only a segment of a tensor");
    let dtype = dtype(proto.data_type)?;
    let dims = dims(&proto.dims)?;
    let read = Read { proto, count: bounded(&dims)?, dtype };
    match dtype {
        DType::U8 => {
            let truths = read.elements(1, |bytes| bytes[0], proto.int32_data.iter().map(|one| *one as u8))?;
            tensor(truths.into_iter().map(|one| u8::from(one != 0)).collect(), dims)
        }
        DType::I32 => {
            tensor(read.elements(4, |b| i32::from_le_bytes(four(b)), proto.int32_data.iter().copied())?, dims)
        }
        DType::I64 => {
            tensor(read.elements(8, |b| i64::from_le_bytes(eight(b)), proto.int64_data.iter().copied())?, dims)
        }
        DType::F32 => {
            tensor(read.elements(4, |b| f32::from_le_bytes(four(b)), proto.float_data.iter().copied())?, dims)
        }
        _ => tensor(read.elements(8, |b| f64::from_le_bytes(eight(b)), proto.double_data.iter().copied())?, dims),
    }
}

fn four(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
}

/// A tensor of so many elements, which stand as raw bytes or as a list of numbers.
struct Read<'a> {
    proto: &'a TensorProto,
    count: usize,
    dtype: DType,
}

impl Read<'_> {
    fn elements<T>(
        &self,
        size: usize,
        parse: impl Fn(&[u8]) -> T,
        listed: impl ExactSizeIterator<Item = T>,
    ) -> Result<Vec<T>> {
        let raw = &self.proto.raw_data;
        let there = if raw.is_empty() { listed.len() } else { raw.len() / size };
        ensure!(
            there == self.count && raw.len().is_multiple_of(size),
            "has {there} elements of {}, and its shape {:?} needs {}",
            type_name(self.dtype),
            self.proto.dims,
            self.count
        );
        Ok(if raw.is_empty() { listed.collect() } else { raw.chunks_exact(size).map(parse).collect() })
    }
}

/// The tensor, and whose it is in the error.
pub fn named(proto: &TensorProto) -> Result<Tensor> {
    decoded(proto).with_context(|| format!("the weight {:?}", proto.name))
}
