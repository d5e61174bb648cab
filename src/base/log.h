/* SPDX-License-Identifier: MIT */
/*
 * The library's own log: silent unless asked for, and never on the client's stdout or stderr by itself.
 *
 * ANYVISOR_LOG=FILE[:LEVEL] names the sink (levels: error, warn, info, debug; "stderr" is allowed as FILE).
 * Any thread may log at any time; a message is written with one write(2). errno is preserved.
 */
#ifndef AV_BASE_LOG_H
#define AV_BASE_LOG_H

#include "base/base.h"

enum av_log_level { AV_LOG_ERROR, AV_LOG_WARN, AV_LOG_INFO, AV_LOG_DEBUG };

/* The most talkative level that reaches the sink; -1 while there is no sink. Set once by av_log_init(). */
extern int av_log_limit;

/* Reads ANYVISOR_LOG and opens the sink. Called once from the library's constructor. */
void av_log_init(void);
void av_log_write(enum av_log_level level, const char *fmt, ...) __printf(2, 3);

#define av_log(level, ...)                                                                         \
	do {                                                                                       \
		if (unlikely((int)(level) <= av_log_limit))                                        \
			av_log_write(level, __VA_ARGS__);                                          \
	} while (0)
#define av_error(...) av_log(AV_LOG_ERROR, __VA_ARGS__)
#define av_warn(...)  av_log(AV_LOG_WARN, __VA_ARGS__)
#define av_info(...)  av_log(AV_LOG_INFO, __VA_ARGS__)
#define av_debug(...) av_log(AV_LOG_DEBUG, __VA_ARGS__)

#endif
