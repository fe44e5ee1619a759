"""Writes src/canon/upgrade/history.rs: at which operator set versions the meaning of a node changed.

Run with the `onnx` package that knows the newest operator set:

    python scripts/opset_history.py > src/canon/upgrade/history.rs

A version of an operator *breaks* a node written for the version before it if the node's attributes
or arguments would be read differently: an attribute is gone, is required, or has another type or
default; an argument is gone, moved or required; the operator is deprecated. Wider element types and
new optional attributes and arguments break nothing, save where REVIEWED says otherwise.
"""

import collections

from onnx import defs, helper

# What signatures do not show, found by reading the operators' changelog.
REVIEWED = {
    ("BatchNormalization", 14): False,  # arguments renamed; training outputs are refused on loading
    ("PRelu", 7): True,  # the slope of one per channel became a broadcast from the right
    ("Split", 18): True,  # equal parts must be asked for by num_outputs
    ("RoiAlign", 16): True,  # the default coordinates are shifted by half a pixel
    ("Resize", 13): True,  # empty scales and tf_half_pixel_for_nn are gone
}

HEADER = '''\
//! At which operator set versions the meaning of a node changed. Written by
//! `scripts/opset_history.py` from the schemas of the `onnx` package; do not edit.

/// The newest operator set version that this table knows.
pub(super) const NEWEST: i64 = {newest};

/// Oldest IR version that may carry an operator set version.
#[rustfmt::skip]
pub(super) const IR_VERSIONS: &[(i64, i64)] = &[
    {ir_versions}
];

/// For each operator, the versions at which nodes of the version before must be rewritten.
#[rustfmt::skip]
pub(super) const BREAKING: &[(&str, &[i64])] = &[
{breaking}
];'''


def attributes_break(old, new):
    for name, was in old.attributes.items():
        now = new.attributes.get(name)
        if now is None or now.type != was.type or (now.required and not was.required):
            return True
        if was.default_value.SerializeToString() != now.default_value.SerializeToString():
            return True
    return any(a.required and name not in old.attributes for name, a in new.attributes.items())


def arguments_break(old, new, required):
    if len(new) < len(old):
        return True
    if any(was.name != now.name for was, now in zip(old, new)):
        return True
    if any(was.option != required and now.option == required for was, now in zip(old, new)):
        return True
    return any(now.option == required for now in new[len(old):])


def breaks(old, new):
    required = defs.OpSchema.FormalParameterOption.Single
    return (
        old.deprecated != new.deprecated
        or attributes_break(old, new)
        or arguments_break(old.inputs, new.inputs, required)
        or arguments_break(old.outputs, new.outputs, defs.OpSchema.FormalParameterOption.Variadic)
    )


def main():
    history = collections.defaultdict(list)
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            history[schema.name].append(schema)
    rows = []
    for name in sorted(history):
        versions = sorted(history[name], key=lambda s: s.since_version)
        found = [
            new.since_version
            for old, new in zip(versions, versions[1:])
            if REVIEWED.get((name, new.since_version), breaks(old, new))
        ]
        if found:
            rows.append(f'    ("{name}", &{found}),')
    newest = defs.onnx_opset_version()
    pairs = {v: ir for (domain, v), ir in helper.OP_SET_ID_VERSION_MAP.items() if domain == "ai.onnx"}
    ir_versions = ", ".join(f"({v}, {ir})" for v, ir in sorted(pairs.items()) if v <= newest)
    print(HEADER.format(newest=newest, ir_versions=ir_versions, breaking="\n".join(rows)))


if __name__ == "__main__":
    main()
