// SPDX-License-Identifier: MIT
/* Printing, reporting and the few libc functions that the compiler calls. */
#include "guest.h"

#include <stdarg.h>

volatile struct caught caught;
void *volatile try_resume;
uptr try_stack;
static int failures;
/* lines of several CPUs must not mix */
static volatile int print_lock;

static void put_char(char c)
{
	outb(PORT_CONSOLE, (u8)c);
}

static void put_string(const char *s)
{
	while (*s)
		put_char(*s++);
}

static void put_number(unsigned long v, unsigned base)
{
	char text[24];
	int n = 0;

	do {
		text[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n)
		put_char(text[--n]);
}

static void print_list(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		long d;

		if (*fmt != '%') {
			put_char(*fmt);
			continue;
		}
		switch (*++fmt) {
		case 's':
			put_string(va_arg(ap, const char *));
			break;
		case 'd':
			d = va_arg(ap, long);
			if (d < 0)
				put_char('-');
			put_number(d < 0 ? -(unsigned long)d : (unsigned long)d, 10);
			break;
		case 'x':
			put_number(va_arg(ap, unsigned long), 16);
			break;
		case 'c':
			put_char((char)va_arg(ap, int));
			break;
		default:
			put_char(*fmt);
		}
	}
}

void print(const char *fmt, ...)
{
	va_list ap;

	while (__sync_lock_test_and_set(&print_lock, 1))
		pause();
	va_start(ap, fmt);
	print_list(fmt, ap);
	va_end(ap);
	__sync_lock_release(&print_lock);
}

void report(const char *name, int ok, const char *fmt, ...)
{
	va_list ap;

	while (__sync_lock_test_and_set(&print_lock, 1))
		pause();
	put_string(name);
	if (ok) {
		put_string(": ok\n");
	} else {
		failures++;
		put_string(": FAIL ");
		va_start(ap, fmt);
		print_list(fmt, ap);
		va_end(ap);
		put_char('\n');
	}
	__sync_lock_release(&print_lock);
}

int on_tcg(void)
{
	u32 r[4];

	cpuid(0x40000000, 0, r);
	return r[1] == 0x54474354; /* "TCGT" */
}

void finish(void)
{
	print("done\n");
	outb(PORT_STATUS, failures ? 1 : 0);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void *memset(void *p, int c, unsigned long n)
{
	u8 *d = p;

	while (n--)
		*d++ = (u8)c;
	return p;
}

void *memcpy(void *d, const void *s, unsigned long n)
{
	u8 *to = d;
	const u8 *from = s;

	while (n--)
		*to++ = *from++;
	return d;
}

int memcmp(const void *a, const void *b, unsigned long n)
{
	const u8 *x = a, *y = b;

	for (; n--; x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}
