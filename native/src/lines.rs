//! The lines of a whole batch as texts to bind; `common.events.line_texts` has the same in Python.

use std::fmt::Write;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Return all SKUs and all quantities, each as one text: orders divided by `between`, the SKUs of one by `within`.
#[pyfunction]
pub fn texts(batch: &Bound<'_, PyAny>, between: &str, within: &str) -> PyResult<(String, String)> {
    let (mut skus, mut quantities) = (String::new(), String::new());
    for (index, lines) in batch.try_iter()?.enumerate() {
        if index > 0 {
            skus.push_str(between);
            quantities.push_str(between);
        }
        for (index, line) in lines?.try_iter()?.enumerate() {
            if index > 0 {
                skus.push_str(within);
                quantities.push(',');
            }
            let (sku, quantity): (Bound<'_, PyString>, i64) = line?.extract()?;
            skus.push_str(sku.to_str()?);
            write!(quantities, "{quantity}").map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        }
    }
    Ok((skus, quantities))
}
