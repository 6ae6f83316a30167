//! Families of numbers, written with the encoder of `prometheus-client`.

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;
use strongroom_io::meter::{Latency, LatencyCounts};

/// What a family of numbers is called.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Said in the name as well.
    pub(super) unit: Option<Unit>,
}

/// Where families are written to.
pub(super) struct Out<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Out<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// One number without labels.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// Numbers that go up and down.
    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        family: Family,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let Family { name, help, unit } = &family;
        let mut metric = self.encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Numbers that only grow.
    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        family: Family,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let Family { name, help, unit } = &family;
        let mut metric = self.encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
        }
        Ok(())
    }

    /// Latencies.
    pub(super) fn histograms<'c, L: EncodeLabelSet>(
        &mut self,
        family: Family,
        series: impl IntoIterator<Item = (L, &'c LatencyCounts)>,
    ) -> fmt::Result {
        let Family { name, help, unit } = &family;
        let mut metric = self.encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        for (labels, counts) in series {
            let bounds =
                (0..).map(|bucket| Latency::bound(bucket).map_or(f64::INFINITY, |bound| bound.as_secs_f64()));
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.buckets).collect();
            let mut of_series = metric.encode_family(&labels)?;
            of_series.encode_histogram::<NoLabelSet>(
                counts.sum.as_secs_f64(),
                counts.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    /// What does not change, as labels.
    pub(super) fn info(&mut self, family: Family, labels: impl EncodeLabelSet) -> fmt::Result {
        let Family { name, help, unit } = &family;
        self.encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Info)?.encode_info(&labels)
    }
}
