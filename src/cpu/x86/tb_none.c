// SPDX-License-Identifier: MIT
/*
 * The translator's place: until it is there, nothing is worth translating.
 */
#include "cpu/x86/tb.h"

#include <errno.h>

int x86_tb_translate(struct x86_code *code, struct x86_code_page *page, u8 set, u32 off, struct x86_tb_out *out)
{
	return -ENOSPC;
}
