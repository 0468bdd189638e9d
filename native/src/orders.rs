//! Bytes to orders. Texts and lines that repeat within a batch are made once: most lines name few SKUs.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple, PyType};

use crate::avro::Reader;

const UUID_LENGTH: u64 = 36;

/// What makes an order sound, beside its form; the same numbers as in `common.events.orders`.
pub struct Bounds {
    pub user_id_length_max: u64,
    pub sku_length_max: u64,
    pub lines_max: u64,
    pub quantity_max: u64,
    pub placed_before_ms: u64,
}

/// An order as it lies in its bytes.
struct Read<'a> {
    order_id: &'a str,
    user_id: &'a str,
    lines: Vec<(&'a str, u64)>,
    placed_at_ms: u64,
}

/// Makes the orders of one batch.
pub struct Builder<'py, 'c> {
    order: &'c Bound<'py, PyType>,
    line: &'c Bound<'py, PyType>,
    new_tuple: &'c Bound<'py, PyAny>,
    places: HashMap<String, usize>,
    skus: Vec<Sku<'py>>,
}

/// A SKU's text, and its lines by quantity.
struct Sku<'py> {
    text: Bound<'py, PyString>,
    lines: Vec<(u64, Bound<'py, PyAny>)>,
}

impl<'py, 'c> Builder<'py, 'c> {
    pub fn new(order: &'c Bound<'py, PyType>, line: &'c Bound<'py, PyType>, new_tuple: &'c Bound<'py, PyAny>) -> Self {
        Self { order, line, new_tuple, places: HashMap::new(), skus: Vec::new() }
    }

    /// Return the order of these bytes behind the frame; None where the codec is to be asked.
    pub fn order(&mut self, body: &[u8], bounds: &Bounds) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(read) = read(body, bounds) else { return Ok(None) };
        let py = self.order.py();
        let lines = read.lines.iter().map(|&(sku, quantity)| self.line(sku, quantity)).collect::<PyResult<Vec<_>>>()?;
        let fields = (
            PyString::new(py, read.order_id),
            PyString::new(py, read.user_id),
            PyTuple::new(py, lines)?,
            PyInt::new(py, read.placed_at_ms),
        );
        self.new_tuple.call1((self.order, fields)).map(Some)
    }

    fn line(&mut self, sku: &str, quantity: u64) -> PyResult<Bound<'py, PyAny>> {
        let py = self.line.py();
        let place = self.places.get(sku).copied().unwrap_or(self.skus.len());
        if place == self.skus.len() {
            self.places.insert(sku.to_owned(), place);
            self.skus.push(Sku { text: PyString::new(py, sku), lines: Vec::new() });
        }
        let Some(known) = self.skus.get_mut(place) else {
            return self.new_tuple.call1((self.line, (sku, quantity)));
        };
        if let Some((_, line)) = known.lines.iter().find(|(each, _)| *each == quantity) {
            return Ok(line.clone());
        }
        let line = self.new_tuple.call1((self.line, (&known.text, quantity)))?;
        known.lines.push((quantity, line.clone()));
        Ok(line)
    }
}

fn read<'a>(body: &'a [u8], bounds: &Bounds) -> Option<Read<'a>> {
    let mut reader = Reader::new(body);
    let order_id = reader.name(UUID_LENGTH).filter(|text| is_uuid(text))?;
    let user_id = reader.name(bounds.user_id_length_max)?;
    let lines = lines(&mut reader, bounds)?;
    let placed_at_ms = reader.unsigned().filter(|&ms| 0 < ms && ms < bounds.placed_before_ms)?;
    reader.is_at_end().then_some(Read { order_id, user_id, lines, placed_at_ms })
}

/// Return the lines of an array in one block, as every writer of ours writes it, if no SKU is on two.
fn lines<'a>(reader: &mut Reader<'a>, bounds: &Bounds) -> Option<Vec<(&'a str, u64)>> {
    let count = reader.within(1, bounds.lines_max)?;
    let mut lines: Vec<(&str, u64)> = Vec::new();
    for _ in 0..count {
        let sku = reader.name(bounds.sku_length_max)?;
        if lines.iter().any(|&(other, _)| other == sku) {
            return None;
        }
        lines.push((sku, reader.within(1, bounds.quantity_max)?));
    }
    reader.within(0, 0).map(|_| lines)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}
