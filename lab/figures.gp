# SPDX-License-Identifier: GPL-2.0-only
# The picture of figures.py: groups of bars with their values on them, the second in colour.
#	gnuplot -e "path='build/7.3/results/run'; bars=2; headline='...'; note='...'" figures.gp
# PATH.dat has a block for each kernel: its name, then lines "GROUP VALUE TEXT LABEL".
data = path . ".dat"
width = 0.8 / bars
place(group, bar) = group + (bar - (bars - 1) / 2.0) * width

stats data using 1 nooutput
groups = STATS_max
stats data using 2 nooutput
set xrange [-0.5:groups + 0.5]
if (STATS_max > 20 * STATS_min) {
	set logscale y
	set yrange [STATS_min / 3:STATS_max * 5]
	note = note . ", log scale"
} else {
	set yrange [0:STATS_max * 1.2]
}
set title "{/:Bold " . headline . "}"
set xlabel note textcolor rgb "#606060" offset 0,-2
set bmargin 7
set style fill solid
set boxwidth width * 0.94
set border 1
unset ytics
set xtics nomirror scale 0
set key outside top center horizontal samplen 1

do for [form in "svg png"] {
	if (form eq "svg") {
		set terminal svg size 1000,480 font "sans,14" background "white"
	} else {
		set terminal pngcairo size 1000,480 font "sans,11"
	}
	set output path . "." . form
	plot for [bar = 0:bars - 1] data index bar using (place($1, bar)):2 with boxes \
		linecolor rgb word("#a0a0a0 #c8102e #d4d4d4", bar + 1) title columnheader(1), \
		for [bar = 0:bars - 1] data index bar using (place($1, bar)):2:3 \
		with labels offset 0,0.7 notitle, \
		data index 0 using 1:(NaN):xticlabels(4) with points notitle
}
