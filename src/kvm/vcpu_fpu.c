// SPDX-License-Identifier: MIT
/*
 * A vCPU's x87, SIMD and extended state as the VMM reads and writes it.
 *
 * Owns the conversion between KVM's structs and the CPU's XSAVE image (standard format, spilled
 * before it is touched). PKRU lives in struct x86_cpu rather than in the image, as in KVM, and is
 * placed into the image here.
 */
#include "kvm/vcpu_priv.h"

#include <errno.h>
#include <string.h>

#define XFEATURE_FP	BIT64(0)
#define XFEATURE_SSE	BIT64(1)
#define XFEATURE_YMM	BIT64(2)
#define XFEATURE_BND	(BIT64(3) | BIT64(4))
#define XFEATURE_AVX512 (BIT64(5) | BIT64(6) | BIT64(7))
#define XFEATURE_PKRU	BIT64(9)
#define XFEATURE_FPSSE	(XFEATURE_FP | XFEATURE_SSE)

#define FCW_INIT   0x37f
#define MXCSR_INIT 0x1f80

/* The first 512 bytes, as FXSAVE64 lays them out, and the header of XSAVE. */
struct xsave_image {
	u16 fcw, fsw;
	u8 ftw, pad;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16];
	u8 xmm[16][16];
	u8 unused[96];
	u64 xstate_bv, xcomp_bv, reserved[6];
};
_Static_assert(sizeof(struct xsave_image) == 576, "XSAVE legacy area and header");

static struct xsave_image *image(struct kvm_vcpu *v)
{
	x86_simd_spill(v->cpu);
	return (struct xsave_image *)v->cpu->xsave;
}

/* Components whose bit is clear hold anything: give them their initial values before they are shown
 * or partly written. */
static void expand_legacy(struct xsave_image *x)
{
	if (!(x->xstate_bv & XFEATURE_FP)) {
		memset(x, 0, offsetof(struct xsave_image, mxcsr));
		memset(x->st, 0, sizeof(x->st));
		x->fcw = FCW_INIT;
	}
	if (!(x->xstate_bv & XFEATURE_SSE)) {
		memset(x->xmm, 0, sizeof(x->xmm));
		if (!(x->xstate_bv & XFEATURE_YMM))
			x->mxcsr = MXCSR_INIT;
	}
	x->xstate_bv |= XFEATURE_FPSSE;
}

KVM_VCPU_OP(kvm_op_get_fpu)
{
	struct kvm_fpu *out = arg->data;
	struct xsave_image *x = image(v);

	expand_legacy(x);
	memset(out, 0, sizeof(*out));
	memcpy(out->fpr, x->st, sizeof(out->fpr));
	out->fcw = x->fcw;
	out->fsw = x->fsw;
	out->ftwx = x->ftw;
	out->last_opcode = x->fop;
	out->last_ip = x->fip;
	out->last_dp = x->fdp;
	memcpy(out->xmm, x->xmm, sizeof(out->xmm));
	out->mxcsr = x->mxcsr;
	return 0;
}

KVM_VCPU_OP(kvm_op_set_fpu)
{
	const struct kvm_fpu *in = arg->data;
	struct xsave_image *x = image(v);

	/* MXCSR is not taken, as in KVM: KVM_SET_XSAVE is the call that sets it. */
	expand_legacy(x);
	memcpy(x->st, in->fpr, sizeof(in->fpr));
	x->fcw = in->fcw;
	x->fsw = in->fsw;
	x->ftw = in->ftwx;
	x->fop = in->last_opcode;
	x->fip = in->last_ip;
	x->fdp = in->last_dp;
	memcpy(x->xmm, in->xmm, sizeof(in->xmm));
	return 0;
}

static bool component(u32 nr, u32 *offset, u32 *size)
{
	bool align64;

	return x86_xsave_component(nr, offset, size, &align64);
}

static u32 host_mxcsr_mask(void)
{
	static u32 cached;
	u8 area[512] __attribute__((aligned(16)));
	u32 mask = READ_ONCE(cached);

	if (!mask) {
		memset(area, 0, sizeof(area));
		__asm__ volatile("fxsave64 %0" : "=m"(area));
		memcpy(&mask, area + offsetof(struct xsave_image, mxcsr_mask), sizeof(mask));
		if (!mask)
			mask = 0xffbf;
		WRITE_ONCE(cached, mask);
	}
	return mask;
}

/* The features whose state may be exchanged: FP and SSE always, even for a guest without XSAVE. */
static u64 exchangeable(const struct kvm_vcpu *v)
{
	return kvm_guest_xcr0(v) | XFEATURE_FPSSE;
}

KVM_VCPU_OP(kvm_op_get_xsave)
{
	struct xsave_image *x = image(v);
	struct xsave_image *out = arg->data;
	u64 bv = x->xstate_bv & exchangeable(v) & ~XFEATURE_PKRU;
	u32 offset, size;

	memset(out, 0, sizeof(struct kvm_xsave));
	memcpy(out, x, offsetof(struct xsave_image, xstate_bv));
	out->xstate_bv = bv;
	expand_legacy(out);
	out->mxcsr_mask = host_mxcsr_mask();
	out->xstate_bv = bv;
	for (u32 i = 2; i < 63; i++) {
		if (!(bv & BIT64(i)) || !component(i, &offset, &size))
			continue;
		if (offset + size <= sizeof(struct kvm_xsave) &&
		    offset + size <= v->cpu->xsave_size)
			memcpy((u8 *)out + offset, (u8 *)x + offset, size);
	}
	if (exchangeable(v) & XFEATURE_PKRU && v->cpu->pkru && component(9, &offset, &size)) {
		memcpy((u8 *)out + offset, &v->cpu->pkru, sizeof(v->cpu->pkru));
		out->xstate_bv |= XFEATURE_PKRU;
	}
	return 0;
}

KVM_VCPU_OP(kvm_op_set_xsave)
{
	const struct xsave_image *in = arg->data;
	struct xsave_image *x = image(v);
	u64 bv = in->xstate_bv;
	u32 offset, size, pkru = 0;

	/* What the host supports may be set, whatever the guest's CPUID says: a VMM may set state
	 * before CPUID. */
	if (bv & ~(x86_host_xcr0() | XFEATURE_FPSSE) || in->xcomp_bv)
		return -EINVAL;
	for (u32 i = 0; i < ARRAY_SIZE(in->reserved); i++)
		if (in->reserved[i])
			return -EINVAL;
	if (bv & (XFEATURE_SSE | XFEATURE_YMM) && in->mxcsr & ~host_mxcsr_mask())
		return -EINVAL;

	memset(x, 0, v->cpu->xsave_size);
	x->mxcsr = MXCSR_INIT;
	x->fcw = FCW_INIT;
	if (bv & XFEATURE_FP) {
		memcpy(x, in, offsetof(struct xsave_image, mxcsr));
		memcpy(x->st, in->st, sizeof(x->st));
	}
	if (bv & XFEATURE_SSE)
		memcpy(x->xmm, in->xmm, sizeof(x->xmm));
	if (bv & (XFEATURE_SSE | XFEATURE_YMM))
		x->mxcsr = in->mxcsr;
	for (u32 i = 2; i < 63; i++) {
		if (!(bv & BIT64(i)) || !component(i, &offset, &size) ||
		    offset + size > sizeof(struct kvm_xsave))
			continue;
		if (BIT64(i) == XFEATURE_PKRU)
			memcpy(&pkru, (const u8 *)in + offset, sizeof(pkru));
		else if (offset + size <= v->cpu->xsave_size)
			memcpy((u8 *)x + offset, (const u8 *)in + offset, size);
	}
	x->xstate_bv = bv & ~XFEATURE_PKRU;
	if (v->cpu->pkru != pkru) {
		v->cpu->pkru = pkru;
		x86_state_changed(v->cpu, false);
	}
	return 0;
}

KVM_VCPU_OP(kvm_op_get_xcrs)
{
	struct kvm_xcrs *out = arg->data;

	memset(out, 0, sizeof(*out));
	out->nr_xcrs = 1;
	out->xcrs[0].xcr = 0;
	out->xcrs[0].value = v->cpu->xcr0;
	return 0;
}

/* SDM vol. 1 "Enabling the XSAVE Feature Set": which combinations XSETBV takes. */
static bool xcr0_valid(u64 xcr0, u64 allowed)
{
	if (!(xcr0 & XFEATURE_FP) || xcr0 & ~(allowed | XFEATURE_FP))
		return false;
	if (xcr0 & XFEATURE_YMM && !(xcr0 & XFEATURE_SSE))
		return false;
	if (xcr0 & XFEATURE_BND && (xcr0 & XFEATURE_BND) != XFEATURE_BND)
		return false;
	if (xcr0 & XFEATURE_AVX512 &&
	    (!(xcr0 & XFEATURE_YMM) || (xcr0 & XFEATURE_AVX512) != XFEATURE_AVX512))
		return false;
	return true;
}

KVM_VCPU_OP(kvm_op_set_xcrs)
{
	const struct kvm_xcrs *in = arg->data;

	if (in->nr_xcrs > KVM_MAX_XCRS || in->flags)
		return -EINVAL;
	for (u32 i = 0; i < in->nr_xcrs; i++) {
		if (in->xcrs[i].xcr)
			continue;
		if (!xcr0_valid(in->xcrs[i].value, kvm_guest_xcr0(v)))
			return -EINVAL;
		v->cpu->xcr0 = in->xcrs[i].value;
		x86_state_changed(v->cpu, false);
		break;
	}
	return 0;
}
