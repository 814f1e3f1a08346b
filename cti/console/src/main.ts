import { mount } from 'svelte';
import App from './App.svelte';
import './app.css';
import { paint } from './lib/theme';

paint();
mount(App, { target: document.getElementById('app')! });
