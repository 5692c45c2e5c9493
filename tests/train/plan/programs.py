"""Compiled programs of a few operations, as the compilers for TPU and GPU write them."""

TPU = """\
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[]}

%sum (a.1: f32[], b.1: f32[]) -> f32[] {
  %a.1 = f32[]{:T(128)} parameter(0)
  %b.1 = f32[]{:T(128)} parameter(1)
  ROOT %add.1 = f32[]{:T(128)} add(%a.1, %b.1)
}

%fused (p.1: bf16[4,8,128], p.2: s32[]) -> bf16[1,8,128] {
  %p.1 = bf16[4,8,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %p.2 = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  ROOT %slice = bf16[1,8,128]{2,1,0:T(8,128)(2,1)} dynamic-slice(%p.1, %p.2, %zero, %zero), \
dynamic_slice_sizes={1,8,128}
}

%body (c.1: (s32[], bf16[4,8,128], s32[])) -> (s32[], bf16[4,8,128], s32[]) {
  %c.1 = (s32[]{:T(128)}, bf16[4,8,128]{2,1,0}, s32[]{:T(128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%c.1), index=0
  %xs.1 = bf16[4,8,128]{2,1,0} get-tuple-element(%c.1), index=1
  %n.1 = s32[]{:T(128)} get-tuple-element(%c.1), index=2
  %read = bf16[1,8,128]{2,1,0} fusion(%xs.1, %i.1), kind=kLoop, calls=%fused, \
metadata={op_name="jit(f)/while/body/transpose(jvp(Net))/block1/fuse/mul"}, \
backend_config={"estimated_cycles":"1000"}
  ROOT %next = (s32[]{:T(128)}, bf16[4,8,128]{2,1,0}, s32[]{:T(128)}) tuple(%i.1, %xs.1, %n.1)
}

%condition (d.1: (s32[], bf16[4,8,128], s32[])) -> pred[] {
  %d.1 = (s32[]{:T(128)}, bf16[4,8,128]{2,1,0}, s32[]{:T(128)}) parameter(0)
  %i.2 = s32[]{:T(128)} get-tuple-element(%d.1), index=0
  %n.2 = s32[]{:T(128)} get-tuple-element(%d.1), index=2
  ROOT %less = pred[]{:T(512)} compare(%i.2, %n.2), direction=LT
}

ENTRY %main (x.1: bf16[4,8,128], /*index=1*/w.1: f32[16]) -> (f32[16], f32[]) {
  %x.1 = bf16[4,8,128]{2,1,0:T(8,128)(2,1)} parameter(0), metadata={op_name="flat_args[0]"}
  %w.1 = f32[16]{0:T(128)} parameter(1)
  %start = s32[]{:T(128)} constant(0)
  %end = s32[]{:T(128)} constant(4)
  %end.copy = s32[]{:T(128)} copy(%end)
  %carry = (s32[]{:T(128)}, bf16[4,8,128]{2,1,0}, s32[]{:T(128)}) tuple(%start, %x.1, %end.copy)
  %loop = (s32[]{:T(128)}, bf16[4,8,128]{2,1,0}, s32[]{:T(128)}) while(%carry), \
condition=%condition, body=%body
  %prefetch = (f32[16]{0:T(128)S(1)}, f32[16]{0:T(128)}, u32[]{:S(2)}) copy-start(%w.1)
  %weights = f32[16]{0:T(128)S(1)} copy-done(%prefetch)
  %reduced = (f32[16]{0:T(128)S(1)}, f32[]{:T(128)}) all-reduce(%weights, %start), \
replica_groups={{0,1,2,3}}, to_apply=%sum, metadata={op_name="jit(f)/shard_map/psum"}
  %first = f32[16]{0:T(128)S(1)} get-tuple-element(%reduced), index=0
  %second = f32[]{:T(128)} get-tuple-element(%reduced), index=1
  ROOT %out = (f32[16]{0:T(128)S(1)}, f32[]{:T(128)}) tuple(%first, %second)
}
"""
"""A loop of four slices, a weight that is prefetched, and an all-reduce."""

GATHER = """\
HloModule jit_f, is_scheduled=true

%fused (p.1: u8[256], p.2: s32[65536]) -> u8[65536] {
  %p.1 = u8[256]{0} parameter(0)
  %p.2 = s32[65536]{0} parameter(1)
  ROOT %gather.1 = u8[65536]{0} gather(%p.1, %p.2), offset_dims={}, slice_sizes={1}
}

ENTRY %main (table: u8[256], positions: s32[65536]) -> u8[65536] {
  %table = u8[256]{0} parameter(0)
  %positions = s32[65536]{0} parameter(1)
  %inverse = u8[256]{0} not(%table), backend_config={"estimated_cycles":"10"}
  ROOT %looked_up = u8[65536]{0} fusion(%inverse, %positions), kind=kCustom, calls=%fused, \
metadata={op_name="jit(f)/augment/gather"}
}
"""
"""A gather for which the TPU compiler has no estimate, after an operation for which it has one."""

GPU = """\
HloModule jit_f, is_scheduled=true

%fused_add (p.1: f32[1024], p.2: f32[1024]) -> f32[1024] {
  %p.1 = f32[1024]{0} parameter(0)
  %p.2 = f32[1024]{0} parameter(1)
  ROOT %add.1 = f32[1024]{0} add(%p.1, %p.2)
}

ENTRY %main.2 (x.1: f32[1024], y.1: f32[1024]) -> f32[1024] {
  %x.1 = f32[1024]{0} parameter(0)
  %y.1 = f32[1024]{0} parameter(1)
  %first = f32[1024]{0} fusion(%x.1, %y.1), kind=kLoop, calls=%fused_add, \
metadata={op_name="jit(f)/jvp(AFF)/AFF.fuse/add"}
  ROOT %second = f32[1024]{0} fusion(%first, %y.1), kind=kLoop, calls=%fused_add
}
"""
"""Two kernels."""

CONDITIONAL = """\
HloModule jit_f, is_scheduled=true

%cheap (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  %one = f32[8]{0} copy(%p.1), backend_config={"estimated_cycles":"10"}
  ROOT %two = f32[8]{0} copy(%one), backend_config={"estimated_cycles":"10"}
}

%dear (q.1: f32[8]) -> f32[8] {
  %q.1 = f32[8]{0} parameter(0)
  ROOT %large = f32[8]{0} copy(%q.1), backend_config={"estimated_cycles":"500"}
}

ENTRY %main (x.1: f32[8], k.1: s32[]) -> f32[8] {
  %x.1 = f32[8]{0} parameter(0)
  %k.1 = s32[] parameter(1)
  ROOT %chosen = f32[8]{0} conditional(%k.1, %x.1, %x.1), branch_computations={%cheap, %dear}
}
"""
"""A branch of two cheap operations, and one of an expensive operation."""
