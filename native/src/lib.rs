//! Reads a batch of `OrderCreated` at once.
//!
//! One promise: what comes back as an order is what the codec in Python would have made of the same bytes, and sound.
//! Everything else, another schema id, a name beyond ASCII, a value out of bounds, bytes cut short, comes back as None:
//! then the codec decides, and words what is wrong. So the two can differ in speed alone.

mod avro;
mod lines;
mod orders;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};

use orders::{Bounds, Builder};

/// Knows the five bytes in front of our own schema, the classes to fill, and the bounds of a sound order.
#[pyclass(frozen)]
struct OrderScanner {
    frame: Vec<u8>,
    order: Py<PyType>,
    line: Py<PyType>,
    new_tuple: Py<PyAny>,
    bounds: Bounds,
}

#[pymethods]
impl OrderScanner {
    /// `order` is a named tuple of (order_id, user_id, lines, placed_at_ms), `line` one of (sku, quantity).
    #[new]
    #[pyo3(signature = (frame, order, line, *, user_id_length_max, sku_length_max, lines_max, quantity_max, placed_before_ms))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        frame: Vec<u8>,
        order: Py<PyType>,
        line: Py<PyType>,
        user_id_length_max: u64,
        sku_length_max: u64,
        lines_max: u64,
        quantity_max: u64,
        placed_before_ms: u64,
    ) -> PyResult<Self> {
        let bounds = Bounds { user_id_length_max, sku_length_max, lines_max, quantity_max, placed_before_ms };
        let new_tuple = py.get_type::<PyTuple>().getattr("__new__")?.unbind();
        Ok(Self { frame, order, line, new_tuple, bounds })
    }

    /// Return per value the order that it holds, or None where the codec is to be asked.
    fn scan<'py>(&self, py: Python<'py>, values: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        let mut builder = Builder::new(self.order.bind(py), self.line.bind(py), self.new_tuple.bind(py));
        let found = PyList::empty(py);
        for value in values.iter() {
            let body = value.cast::<PyBytes>().ok().and_then(|bytes| bytes.as_bytes().strip_prefix(&*self.frame));
            match body {
                Some(body) => found.append(builder.order(body, &self.bounds)?)?,
                None => found.append(py.None())?,
            }
        }
        Ok(found)
    }
}

#[pymodule]
fn order_scan(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(lines::texts, module)?)?;
    module.add_class::<OrderScanner>()
}
