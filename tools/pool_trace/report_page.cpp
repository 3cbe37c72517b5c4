// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <nlohmann/json.hpp>

namespace pool_trace {
namespace {

constexpr const char* before_data = R"html(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Memory pool</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<style>
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1180px;padding:1.2em;color:#1b1f24;background:#fff}
h1{font-size:1.5em;margin:.2em 0}h2{font-size:1.15em;margin:1.5em 0 .3em}
table{border-collapse:collapse}td{padding:.1em 1.4em .1em 0}td+td{text-align:right;font-variant-numeric:tabular-nums}
.figures{display:flex;gap:3em;flex-wrap:wrap}canvas{display:block;width:100%;background:#f6f8fa}
.two{display:grid;grid-template-columns:1fr 1fr;gap:2em}li{margin:.3em 0}
#tip{position:fixed;display:none;background:#1b1f24;color:#fff;padding:.4em .7em;border-radius:4px;font-size:13px;
white-space:pre;pointer-events:none;z-index:9}
.key span{display:inline-block;width:1em;height:.8em;margin:0 .4em 0 1.2em}.soft{color:#59636e}
</style></head><body>
<h1></h1><div class="figures"></div>
<h2>Advice</h2><ul id="advice"></ul>
<h2>Arenas <span class="soft" id="moment"></span></h2>
<p class="key"><span style="background:#0969da"></span>small<span style="background:#1a7f37"></span>medium
<span style="background:#bc4c00"></span>large<span style="background:#8250df"></span>device
<span style="background:#c8e1ff;border:1px solid #9bb"></span>free<span style="background:#eaeef2"></span>neither
<span style="background:#fff;border:1px solid #ddd"></span>not mapped. Addresses run along the rows.</p>
<div id="arenas"></div><p class="soft" id="more"></p>
<section id="time"><h2>Bytes over time <span class="soft">in use, and mapped above it</span></h2>
<canvas height="220"></canvas></section>
<div class="two"><section id="sizes"><h2>Sizes <span class="soft">blocks up to</span></h2><canvas height="200"></canvas>
</section><section id="lifetimes"><h2>Lifetimes <span class="soft">blocks up to</span></h2><canvas height="200"></canvas>
</section></div><div id="tip"></div>
<script type="application/json" id="data">)html";

constexpr const char* behind_data = R"html(</script>
<script>
'use strict';
window.onerror=(m)=>{document.body.dataset.error=m;};
const data=JSON.parse(document.getElementById('data').textContent),$=(q)=>document.querySelector(q);
const size=(b)=>{const u=['B','KiB','MiB','GiB','TiB'];let i=0;while(b>=1024&&i<4){b/=1024;i++;}
 return (Number.isInteger(b)?b:b.toFixed(1))+' '+u[i];};
const time=(n)=>n<1e3?n+' ns':n<1e6?(n/1e3).toFixed(1)+' us':n<1e9?(n/1e6).toFixed(1)+' ms':(n/1e9).toFixed(2)+' s';
const add=(parent,tag,text)=>{const e=document.createElement(tag);if(text!==undefined)e.textContent=text;
 parent.appendChild(e);return e;};
const tip=$('#tip'),show=(ev,text)=>{tip.textContent=text;tip.style.display='block';
 tip.style.left=Math.min(ev.clientX+14,innerWidth-tip.offsetWidth-8)+'px';
 tip.style.top=Math.min(ev.clientY+14,innerHeight-tip.offsetHeight-8)+'px';},hide=()=>{tip.style.display='none';};
$('h1').textContent=data.title;document.title=data.title;$('#moment').textContent=data.moment||'';
for(const group of [data.snapshot_figures,data.figures])if(group){const t=add($('.figures'),'table');
 for(const [k,v] of Object.entries(group)){const r=add(t,'tr');add(r,'td',k);add(r,'td',String(v));}}
for(const a of data.advice)add($('#advice'),'li',a);
const fit=(canvas)=>{const w=canvas.clientWidth||1100,s=devicePixelRatio||1,h=canvas.height;canvas.style.height=h+'px';
 canvas.width=w*s;canvas.height=h*s;const c=canvas.getContext('2d');c.scale(s,s);return [c,w,h];};
const colors=['#0969da','#1a7f37','#bc4c00','#8250df'],kinds=['small','medium','large','device'];
const ends=(list,from)=>{let lo=0,hi=list.length;while(lo<hi){const m=(lo+hi)>>1;if(list[m].at<=from)lo=m+1;else hi=m;}
 return lo;};
// Pieces of an arena, by address: live and free blocks, and what is not mapped.
const pieces=[];
for(const b of data.live)pieces.push({at:b[0],bytes:b[2],color:colors[b[3]],kind:'live',row:b});
for(const b of data.free)pieces.push({at:b[0],bytes:b[1],color:'#c8e1ff',kind:'free',row:b});
for(const a of data.arenas)for(const u of a.unmapped)pieces.push({at:u[0],bytes:u[1],color:'#fff',kind:'not mapped'});
pieces.sort((a,b)=>a.at-b.at);
const tell=(p,at)=>{if(!p)return 'neither live nor free: kept by a smaller pool';
 let t=p.kind==='live'?`block 0x${p.at.toString(16)}\n${p.row[1]} bytes (${size(p.row[1])}), covers ${p.row[2]}\n`+
 `pool ${kinds[p.row[3]]}, stream ${p.row[4]}, allocation ${p.row[5]}\nage ${time(p.row[6])}`:
 `${p.kind} 0x${p.at.toString(16)}\n${size(p.bytes)}`;
 const s=data.sites[String(p.at)];if(p.kind==='live'&&s)t+='\n'+s.map(x=>'from '+x).join('\n');return t;};
const draw=(arena)=>{
 // Only as far as anything is mapped, in rows of equal bytes.
 const first=ends(pieces,arena.base-1),beyond=ends(pieces,arena.base+arena.bytes-1),mine=pieces.slice(first,beyond);
 let used=0;for(const p of mine)if(p.kind!=='not mapped')used=Math.max(used,p.at+p.bytes-arena.base);
 if(!used)used=Math.min(arena.bytes,1<<21);
 const box=$('#arenas');add(box,'p',`0x${arena.base.toString(16)}: ${size(used)} of ${size(arena.bytes)} of addresses, `+
 `${mine.filter(p=>p.kind==='live').length} live blocks`);
 const canvas=add(box,'canvas'),rows=Math.max(1,Math.min(40,Math.ceil(used/(4<<20)))),high=14;canvas.height=rows*high;
 const [c,w]=fit(canvas),each=Math.ceil(used/rows);c.fillStyle='#eaeef2';
 for(let r=0;r<rows;r++)c.fillRect(0,r*high,w,high-2);
 for(const p of mine){c.fillStyle=p.color;let at=p.at-arena.base,left=Math.min(p.bytes,used-at);
  // Whole numbers all the way, so each turn takes at least one byte.
  while(left>0){const r=Math.floor(at/each),x=at-r*each,n=Math.min(left,each-x);
   c.fillRect(x/each*w,r*high,Math.max(n/each*w-(n/each*w>3?.6:0),.35),high-2);at+=n;left-=n;}}
 canvas.onmousemove=(ev)=>{const r=Math.min(rows-1,Math.floor(ev.offsetY/high)),
  at=arena.base+(r+ev.offsetX/canvas.clientWidth)*each,i=ends(mine,at)-1,p=mine[i];
  show(ev,tell(p&&at<p.at+p.bytes?p:null,at));};canvas.onmouseleave=hide;};
data.arenas.slice(0,32).forEach(draw);
if(data.arenas.length>32)$('#more').textContent=`and ${data.arenas.length-32} more arenas`;
const bars=(section,counts,label)=>{if(!counts||!Object.keys(counts).length){section.remove();return 0;}
 // A map with whole numbers for keys comes as pairs.
 const list=counts,[c,w,h]=fit(section.querySelector('canvas')),most=Math.max(...list.map(x=>x[1])),step=w/list.length;
 c.font='11px system-ui';c.textAlign='center';
 list.forEach(([bits,n],i)=>{const y=n/most*(h-36);c.fillStyle='#0969da';c.fillRect(i*step+2,h-18-y,step-4,y);
  c.fillStyle='#1b1f24';c.fillText(label(2**bits),i*step+step/2,h-5);c.fillText(n,i*step+step/2,h-22-y);});};
bars($('#sizes'),data.sizes,size);bars($('#lifetimes'),data.lifetimes,time);
if(data.over_time){const [c,w,h]=fit($('#time canvas')),list=data.over_time,end=Math.max(1,list[list.length-1][0]),
 most=Math.max(1,...list.map(p=>Math.max(p[1],p[2]))),x=(p)=>p[0]/end*w,y=(v)=>h-16-v/most*(h-30);
 const line=(k,color,fill)=>{c.beginPath();c.moveTo(0,y(0));let last=0;for(const p of list){c.lineTo(x(p),y(last));
  c.lineTo(x(p),y(p[k]));last=p[k];}c.lineTo(w,y(last));if(fill){c.lineTo(w,y(0));c.fillStyle=fill;c.fill();}
  c.strokeStyle=color;c.stroke();};
 line(2,'#bc4c00');line(1,'#0969da','#0969da44');c.fillStyle='#1b1f24';c.font='11px system-ui';
 c.fillText(size(most),4,11);c.fillText(time(end),w-60,h-3);
 $('#time canvas').onmousemove=(ev)=>{const at=ev.offsetX/ev.target.clientWidth*end;let p=list[0];
  for(const q of list)if(q[0]<=at)p=q;show(ev,`${time(p[0])}\nin use ${size(p[1])}\nmapped ${size(p[2])}`);};
 $('#time canvas').onmouseleave=hide;}else $('#time').remove();
document.body.dataset.pieces=pieces.length;document.body.dataset.readyMs=Math.round(performance.now());
</script></body></html>
)html";

} // namespace

std::string report_page(const ReportInput& input) {
    std::string text = report_data(input).dump();
    // What could end the element must not appear in it.
    for (std::size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at))
        text.replace(at, 1, "\\u003c");
    return before_data + text + behind_data;
}

} // namespace pool_trace
