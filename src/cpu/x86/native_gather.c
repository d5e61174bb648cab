// SPDX-License-Identifier: MIT
/*
 * Binds gathers and scatters to their handler (op_gather.c).
 *
 * Outer file. Knows operands, not how elements move.
 */
#include "cpu/x86/native_priv.h"

#include <string.h>

#define XCR0_NEEDED(evex) (X86_XCOMP_SSE | X86_XCOMP_AVX | ((evex) ? X86_XCOMP_AVX512 : 0u))

bool x86_bind_gather(const struct x86_decoded *d, struct x86_insn *i)
{
	struct x86_vsib v = {.evex = d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX};
	const ZydisDecodedOperand *mem = NULL, *data = NULL;
	u32 vectors = 0, index_bytes;

	for (u32 k = 0; k < d->z.operand_count_visible; k++) {
		const ZydisDecodedOperand *o = &d->op[k];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			mem = o;
			v.scatter = k == 0;
			continue;
		}
		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			return false;
		/* Gathers name data, then (AVX2) the mask; AVX-512 has its mask register apart. */
		if (ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_MASK)
			v.mask = (u8)ZydisRegisterGetId(o->reg.value);
		else if (vectors++ == 0)
			data = o;
		else
			v.mask = (u8)ZydisRegisterGetId(o->reg.value);
	}
	if (!mem || !data || mem->mem.type != ZYDIS_MEMOP_TYPE_VSIB ||
	    (x86_host_xcr0() & XCR0_NEEDED(v.evex)) != XCR0_NEEDED(v.evex))
		return false;
	v.data = (u8)ZydisRegisterGetId(data->reg.value);
	v.index = (u8)ZydisRegisterGetId(mem->mem.index);
	v.elem = (u8)(data->element_size / 8);
	switch (d->z.mnemonic) {
	case ZYDIS_MNEMONIC_VGATHERDPS:
	case ZYDIS_MNEMONIC_VGATHERDPD:
	case ZYDIS_MNEMONIC_VPGATHERDD:
	case ZYDIS_MNEMONIC_VPGATHERDQ:
	case ZYDIS_MNEMONIC_VSCATTERDPS:
	case ZYDIS_MNEMONIC_VSCATTERDPD:
	case ZYDIS_MNEMONIC_VPSCATTERDD:
	case ZYDIS_MNEMONIC_VPSCATTERDQ:
		v.idx = 4;
		break;
	default:
		v.idx = 8;
		break;
	}
	index_bytes = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, mem->mem.index) / 8;
	v.count = (u8)MIN(data->size / 8u / v.elem, index_bytes / v.idx);
	i->index = X86_GPR_ZERO;
	memcpy(&i->imm, &v, sizeof(v));
	i->fn = x86_op_gather;
	return true;
}
