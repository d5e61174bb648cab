# SPDX-License-Identifier: MIT
# Makes the version script from interpose.list: the hooks and the public API are shown, all else is hidden.
# It is anonymous on purpose: a preloaded name without a version matches every version that a client asks for.
BEGIN { FS = " *[|] *"; print "{\nglobal:\n\tanyvisor_*;" }
/^#/ || NF < 2 { next }
$2 == "hook" { print "\t" $1 ";" }
END { print "local:\n\t*;\n};" }
